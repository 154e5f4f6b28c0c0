"""Work beside the event loop: a pool of processes that can be killed, or of threads where there are none."""
