"""The pages a browser shows: the playground at `/` and the interface at `/docs`, from files of packages only."""
