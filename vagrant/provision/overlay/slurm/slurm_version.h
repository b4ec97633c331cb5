/* Laid over Slurm 26.05's own header while pyslurm 25.11.2 is built.
 * pyslurm's setup.py does not compile this file, it searches it for the next line and
 * refuses any release but 25.11; the compiler sees the true version below. */
#if 0
#define SLURM_VERSION_NUMBER 0x190b00
#endif
#include_next <slurm/slurm_version.h>
