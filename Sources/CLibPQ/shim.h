// libpq, and the Linux headers of the event loop and the benchmark that Glibc's module map leaves out.
#include <libpq-fe.h>
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
