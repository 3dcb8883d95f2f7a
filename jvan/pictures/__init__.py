"""Reading pictures, finding them, and where their pixels go."""
