#include "config.h"
#include "greet.h"

int main(void)
{
	greet("everybody");
	return 0;
}
