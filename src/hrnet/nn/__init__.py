"""Networks: the backbone, its representations, and what every task model shares."""
