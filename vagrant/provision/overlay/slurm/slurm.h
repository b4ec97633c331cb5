/* Laid over Slurm 26.05's own header while pyslurm 25.11.2 is built: the names that
 * 26.05 changed, under those that 25.11 had. */

/* Slurm's own shim for the change from job_id to step_id in its messages. */
#define SLURM_BACKWARD_COMPAT
#include_next <slurm/slurm.h>

/* Renamed. */
#define slurm_free_ctl_conf slurm_free_conf
/* Removed; any other code will do, it is only listed. */
#define ESLURM_ERROR_ON_DESC_TO_RECORD_COPY ESLURM_MAX_JOB_COUNT
/* pyslurm declares job_resources_t itself, without a field that 26.05 put before
 * node_req. Without it get_resource_layout_per_node() reads past it and crashes. */
#define node_req *node_ranks; uint32_t node_req
