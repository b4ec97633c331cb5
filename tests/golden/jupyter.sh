#!/bin/bash
#SBATCH --job-name=jupyter
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --nodes=1
#SBATCH --gres=gpu:h100:4
#SBATCH --time=04:00:00
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=generic;template=jupyter)

# The output will hold the token, which is a password: nobody else may read it.
umask 077
[[ ! -f /dev/stdout ]] || chmod go= /dev/stdout
[[ ! -f /dev/stderr ]] || chmod go= /dev/stderr

_gs_login=login.site
_gs_login=${_gs_login:-${SLURM_SUBMIT_HOST:-LOGIN_NODE}}
_gs_root=''
_gs_port=0
[[ $_gs_port != 0 ]] || _gs_port=$((15000 + SLURM_JOB_ID % 15000))
_gs_node=${SLURMD_NODENAME:-$HOSTNAME}
_gs_folder=$(mktemp -d) || exit 1
_gs_pid=
_gs_found=

finish() {
    [[ -z $_gs_pid ]] || kill -TERM "$_gs_pid" 2>/dev/null
    [[ -z $_gs_pid ]] || wait "$_gs_pid" 2>/dev/null
    rm -rf -- "$_gs_folder"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

(

    # Jupyter writes the port it found free, and its token, into a file of this folder.
    export JUPYTER_RUNTIME_DIR=$_gs_folder
    exec -- jupyter lab --no-browser --ServerApp.ip=0.0.0.0 \
        --ServerApp.port="$_gs_port" --ServerApp.port_retries=100 \
        --ServerApp.root_dir="${_gs_root:-$PWD}"
) &
_gs_pid=$!

# field NAME: a value of the server's file, which has one a line.
field() { sed -n "s/^ *\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$_gs_folder"/jpserver-*.json; }

for ((_gs_waited = 0; _gs_waited < 300; _gs_waited++)); do
    kill -0 "$_gs_pid" 2>/dev/null || break
    _gs_found=$(field port 2>/dev/null)
    [[ -z $_gs_found ]] || break
    sleep 1
done
if [[ -z $_gs_found ]]; then
    if kill -0 "$_gs_pid" 2>/dev/null; then
        echo "jupyter: not ready within 300 seconds" >&2
    else
        echo "jupyter: ended before it was ready" >&2
    fi
    exit 1
fi
# No token where your own configuration of Jupyter has a password instead.
_gs_token=$(field token)
cat <<END

JupyterLab runs on $_gs_node. On your own machine, keep this running:

    ssh -N -L $_gs_found:$_gs_node:$_gs_found $USER@$_gs_login

and open

    http://localhost:$_gs_found/lab${_gs_token:+?token=$_gs_token}

END
wait "$_gs_pid"
