"""Students that learn what teachers answer: smaller networks, robust ones, without data, and such that write text."""
