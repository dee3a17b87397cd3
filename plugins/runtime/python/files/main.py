"""The Python runtime of Covey. A node starts it; it becomes a function when the node says which."""

import os
import sys

if __name__ == "__main__":
    # At the end of the search path, so that nothing of a function is ever hidden by what is ours.
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
    from covey_runtime import process

    process.main()
