"""What happens: one method for each operation of the contract, one visible transaction in each method."""
