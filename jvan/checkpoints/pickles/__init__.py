"""A pickle read as data: its opcodes are interpreted here, and nothing of it is run."""
