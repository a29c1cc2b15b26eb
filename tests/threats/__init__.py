"""The threat model: one class per threat, named after it; docs/security.md has the table."""
