"""Pure words and decisions: no SQL, no Flask, no reading of clocks."""
