"""How one step happens: one Prefect task per module. Step modules never import each other."""
