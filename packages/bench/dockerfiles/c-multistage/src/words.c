#include "words.h"

const char *words(void)
{
	return "hello from C";
}
