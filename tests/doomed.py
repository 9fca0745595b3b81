"""Jobs that no worker process survives the import of, and with `-m` a worker that waits long before it tries again."""

import os
import signal

from quarterjack_worker import supervisor
from quarterjack_worker.__main__ import main

if __name__ == "__main__":
    supervisor.FIRST_DELAY = 600.0
    main()
else:
    os.kill(os.getpid(), signal.SIGRTMIN + 1)
