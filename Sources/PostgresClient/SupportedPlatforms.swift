#if !os(Linux)
    #error("This package runs on Linux alone: its event loop is made of epoll and eventfd.")
#endif
