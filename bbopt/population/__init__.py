"""Population methods: explicit states, pure updates, rounds of slots."""
