#include "page.h"
#include "page_text.h"

const char *page_body(void) {
    return PAGE_TEXT;
}
