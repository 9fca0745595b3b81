"""A scheduler whose main loop SIGUSR1 blocks for five seconds, as a call that never awaits would."""

import signal
import time

from quarterjack_scheduler.__main__ import main

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(5.0))
    main()
