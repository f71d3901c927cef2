/* Waits for ever in no memory of its own. */
#include <unistd.h>
int main(void) { for (;;) pause(); }
