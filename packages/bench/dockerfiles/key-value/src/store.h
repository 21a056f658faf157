void store_put(const char *name, const char *value);
const char *store_get(const char *name);
