"""What breaks in the long run: fuzzed inputs, servers that die, several cameras for hours, overload."""
