"""The application of the tests as a program that serves in debug mode: the port is its argument."""

import sys

from tests.whole.loop_app import create_app

if __name__ == "__main__":
    create_app().run(port=int(sys.argv[1]), debug=True)
