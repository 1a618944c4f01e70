"""Just enough of libpq for the programs of this folder, which thus need nothing but Python.

The server is the one that PGHOST, PGPORT, ... name.
"""

import ctypes
import ctypes.util
import glob
import os
import select


def _load_libpq():
    beside_psql = glob.glob(os.path.join(os.environ.get("TMCP_BINDIR", ""), "..", "lib", "libpq.so.5"))
    found = ctypes.util.find_library("pq")
    if not found and not beside_psql:
        raise SystemExit("libpq is missing; Tests/cluster/prerequisites tells what to install")
    return ctypes.CDLL(found or beside_psql[0])


class _Notify(ctypes.Structure):
    _fields_ = [("channel", ctypes.c_char_p), ("pid", ctypes.c_int), ("payload", ctypes.c_char_p)]


_pq = _load_libpq()
_pointer, _text, _number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
for _name, _returns, _takes in [
    ("PQconnectdb", _pointer, [_text]),
    ("PQfinish", None, [_pointer]),
    ("PQstatus", _number, [_pointer]),
    ("PQerrorMessage", _text, [_pointer]),
    ("PQexecParams", _pointer, [_pointer, _text, _number, _pointer, _pointer, _pointer, _pointer, _number]),
    ("PQresultStatus", _number, [_pointer]),
    ("PQresultErrorField", _text, [_pointer, _number]),
    ("PQntuples", _number, [_pointer]),
    ("PQnfields", _number, [_pointer]),
    ("PQgetisnull", _number, [_pointer, _number, _number]),
    ("PQgetvalue", _text, [_pointer, _number, _number]),
    ("PQclear", None, [_pointer]),
    ("PQsocket", _number, [_pointer]),
    ("PQconsumeInput", _number, [_pointer]),
    ("PQnotifies", ctypes.POINTER(_Notify), [_pointer]),
    ("PQfreemem", None, [_pointer]),
]:
    getattr(_pq, _name).restype = _returns
    getattr(_pq, _name).argtypes = _takes


class DatabaseError(Exception):
    """What the server answered, with its SQLSTATE; None when the connection is gone."""

    def __init__(self, sqlstate, message):
        super().__init__(f"{sqlstate}: {message}")
        self.sqlstate = sqlstate


def array(values):
    """An array literal of texts and None."""
    return "{" + ",".join(
        "NULL" if value is None else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
        for value in values
    ) + "}"


class Connection:
    """One connection, for one thread."""

    def __init__(self, settings="synchronous_commit=off"):
        options = " ".join("-c " + setting for setting in settings.split())
        self._connection = _pq.PQconnectdb(f"dbname='{os.environ.get('PGDATABASE', 'postgres')}' options='{options}'".encode())
        if _pq.PQstatus(self._connection) != 0:
            raise DatabaseError(None, _pq.PQerrorMessage(self._connection).decode())

    def close(self):
        _pq.PQfinish(self._connection)
        self._connection = None

    def rows(self, sql, *parameters):
        """Runs one statement; its rows as tuples of texts and None."""
        values = (ctypes.c_char_p * len(parameters))(
            *(None if value is None else str(value).encode() for value in parameters))
        result = _pq.PQexecParams(self._connection, sql.encode(), len(parameters), None, values, None, None, 0)
        try:
            if _pq.PQresultStatus(result) not in (1, 2):  # PGRES_COMMAND_OK, PGRES_TUPLES_OK
                sqlstate = _pq.PQresultErrorField(result, ord("C"))
                raise DatabaseError(sqlstate and sqlstate.decode(), _pq.PQerrorMessage(self._connection).decode())
            columns = range(_pq.PQnfields(result))
            return [
                tuple(None if _pq.PQgetisnull(result, row, column) else _pq.PQgetvalue(result, row, column).decode()
                      for column in columns)
                for row in range(_pq.PQntuples(result))
            ]
        finally:
            _pq.PQclear(result)

    def value(self, sql, *parameters):
        """The first column of the first row."""
        return self.rows(sql, *parameters)[0][0]

    def notifications(self, seconds):
        """Payloads and channels that have come, after waiting for the first of them for so long at most."""
        heard = self._heard()
        if not heard and select.select([_pq.PQsocket(self._connection)], [], [], seconds)[0]:
            if not _pq.PQconsumeInput(self._connection):
                raise DatabaseError(None, _pq.PQerrorMessage(self._connection).decode())
            heard = self._heard()
        return heard

    def _heard(self):
        heard = []
        while notify := _pq.PQnotifies(self._connection):
            heard.append((notify.contents.channel.decode(), notify.contents.payload))
            _pq.PQfreemem(notify)
        return heard
