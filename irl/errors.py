"""The one exception for what a person at the keyboard can mend."""


class UserError(Exception):
    """Entry points print it in one line, without a traceback, and exit with status 1."""
