"""Device meshes, sharding, processes and compilation."""
