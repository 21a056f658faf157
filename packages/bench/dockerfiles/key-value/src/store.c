#include <string.h>
#include "store.h"

static const char *names[16], *values[16];
static int count;

void store_put(const char *name, const char *value)
{
	names[count] = name;
	values[count++] = value;
}

const char *store_get(const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return values[i];
	return 0;
}
