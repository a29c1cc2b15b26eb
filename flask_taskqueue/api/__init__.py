"""What an application, a command and the dashboard do with tasks, queues and schedules, each in
one place.
"""
