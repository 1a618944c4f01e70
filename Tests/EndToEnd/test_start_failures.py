"""What someone reads whose server does not start: one sentence, which says what to do."""

import contextlib
import os
import socket
import subprocess
import tempfile
import unittest
import urllib.parse

from deployment import DEADLINE, psql


def url(**changes):
    """The URL of the tests' database with another user, password, port or database."""
    parts = urllib.parse.urlsplit(os.environ["TMCP_DATABASE_URL"])
    user = changes.get("user", parts.username)
    password = changes.get("password", parts.password)
    port = changes.get("port", parts.port)
    return f"postgresql://{user}:{password}@{parts.hostname}:{port}/{changes.get('database', parts.path[1:])}"


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def role_without_rights(database):
    """A database without the extension, and a role that may do nothing there. Yields the URL."""
    psql("CREATE ROLE someone LOGIN PASSWORD 'secret'")
    psql(f"CREATE DATABASE {database}")
    try:
        yield url(user="someone", password="secret", database=database)
    finally:
        psql(f"DROP DATABASE {database} WITH (FORCE)")
        psql("DROP ROLE someone")


class StartFailures(unittest.TestCase):
    def fails(self, *options, database=None):
        """Starts a server that cannot start. Returns the sentence that it leaves behind."""
        done = subprocess.run(
            [os.environ["TMCP_SERVER"], "--port", "0", *options],
            env={**os.environ, "TMCP_DATABASE_URL": database or os.environ["TMCP_DATABASE_URL"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        self.assertEqual(done.stdout, "")
        # What is logged before may be there, too.
        self.assertRegex(done.stderr, r"(?m)^tmcp-server: [^\n]+\.\n\Z")
        self.assertNotIn("secret", done.stderr)
        self.assertNotIn(urllib.parse.urlsplit(os.environ["TMCP_DATABASE_URL"]).password, done.stderr)
        self.assertEqual(done.returncode, 1)
        return done.stderr.splitlines()[-1]

    def assertSays(self, sentence, *parts):
        for part in parts:
            self.assertIn(part, sentence)
        self.assertNotIn("?", sentence)
        self.assertNotIn("set create to", sentence)

    def test_an_unreachable_database(self):
        port = unused_port()
        sentence = self.fails(database=url(port=port))
        self.assertSays(sentence, "the database cannot be reached", str(port), "check --database-url")

    def test_a_password_that_is_wrong(self):
        sentence = self.fails(database=url(password="secret"))
        self.assertSays(sentence, "password authentication failed", "check --database-url")

    def test_a_database_that_is_not_there(self):
        sentence = self.fails(database=url(database="nowhere"))
        self.assertSays(sentence, '"nowhere" does not exist', "check --database-url")

    def test_a_url_that_is_none(self):
        self.assertSays(self.fails(database="http://127.0.0.1"), "postgresql://user@host:port/database")

    def test_no_rights_to_install_the_extension(self):
        with role_without_rights("nothing_here") as database:
            sentence = self.fails(database=database)
            self.assertSays(sentence, "CREATE EXTENSION IF NOT EXISTS tmcp_session_manager", "tmcp.grant_usage(")

    def test_no_rights_to_create_the_notes_and_that_the_advice_helps(self):
        with role_without_rights("no_notes_here") as database:
            elsewhere = ["env", "PGDATABASE=no_notes_here", "psql", "--no-psqlrc", "--quiet", "--command"]

            def administer(statement):
                subprocess.run([*elsewhere, statement], check=True, stdout=subprocess.DEVNULL)

            administer("CREATE EXTENSION tmcp_session_manager")
            self.assertSays(self.fails(database=database), "SELECT tmcp.grant_usage('tmcp'")
            administer("SELECT tmcp.create_store('tmcp')")
            administer("SELECT tmcp.grant_usage('tmcp', 'someone')")
            self.assertSays(self.fails(database=database), "GRANT CREATE ON DATABASE")
            administer("GRANT CREATE ON DATABASE no_notes_here TO someone")
            server = subprocess.Popen(
                [os.environ["TMCP_SERVER"], "--port", "0"],
                env={**os.environ, "TMCP_DATABASE_URL": database},
                stderr=subprocess.PIPE,
                text=True,
            )
            with server, contextlib.ExitStack() as stack:
                stack.callback(server.kill)
                self.assertIn("Listening on", server.stderr.readline())

    def test_a_port_that_is_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])
            self.assertSays(self.fails("--port", port), f"port {port}", "is in use", "--port")

    def test_an_address_that_is_not_of_this_machine(self):
        self.assertSays(self.fails("--host", "192.0.2.1"), "192.0.2.1", "--host")

    def test_tokens_that_cannot_be_read(self):
        self.assertSays(self.fails("--tokens", "/nowhere"), "--tokens")
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("token-a alice\ntoken-a bob\n")
            file.flush()
            self.assertSays(self.fails("--tokens", file.name), "line 2", "--tokens")
