#!/bin/bash
# Within a job, srun would make a step of that job instead of asking for a new one.
if [[ -n ${SLURM_JOB_ID-} ]]; then
    for _gs_name in "${!SLURM_@}" "${!SRUN_@}"; do
        case $_gs_name in
            SLURM_CONF | SLURM_CONF_SERVER | SLURM_CLUSTERS | SLURM_JWT | SLURM_SACK_*) ;;
            *) unset "$_gs_name" ;;
        esac
    done
fi
_gs_options=(--job-name=interactive --account=nlp --partition=gpu --qos=normal --nodes=1 --gres=gpu:h100:4 --time=04:00:00 '--comment=gpu-submit(token=4f2a0c;workload=generic;template=interactive)')
set -- bash -l
_gs_launcher=salloc

if [[ $_gs_launcher == salloc ]]; then
    exec salloc "${_gs_options[@]}" -- "$@"
fi
[[ $# != 0 ]] || set -- "${SHELL:-/bin/bash}" -i
# A terminal for the command where this script has one: srun complains of --pty without one.
[[ ! -t 0 ]] || _gs_options+=(--pty)
exec srun "${_gs_options[@]}" -- "$@"
