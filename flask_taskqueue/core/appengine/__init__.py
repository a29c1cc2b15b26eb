"""App Engine's queue.yaml and cron.yaml."""
