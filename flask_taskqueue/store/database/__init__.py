"""The database: connections, transactions, tables."""
