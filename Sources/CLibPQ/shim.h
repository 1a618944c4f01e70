// libpq, and the two Linux headers of the event loop that Glibc's module map leaves out.
#include <libpq-fe.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
