#include <stdio.h>
#include "store.h"

int main(void)
{
	store_put("version", "7.2.3");
	printf("%s\n", store_get("version"));
	return 0;
}
