"""Actions that the app, a command and the dashboard take on tasks, queues and schedules."""
