"""The peers, each a module that runs in a virtual environment of its own; nothing here needs
Flask-TaskQueue but its own.
"""
