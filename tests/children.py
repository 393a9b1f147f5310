"""Children of this process: they begin with all that it has imported, and tests kill them."""

import os
import signal
import traceback
import warnings


class Child:
    """Does `work` in a fork of this process; its exit status is 1 where it raises."""

    def __init__(self, work):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
            self.number = os.fork()
        if self.number:
            return
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest's workers ignore it
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def runs(self):
        """Whether it has not ended yet."""
        return os.waitid(os.P_PID, self.number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def signal(self, what):
        os.kill(self.number, what)

    def kill(self):
        self.signal(signal.SIGKILL)

    def wait(self):
        """Its exit status; minus the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])


def die():
    """In a child: as if its machine lost power."""
    os.kill(os.getpid(), signal.SIGKILL)
