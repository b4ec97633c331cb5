#!/bin/bash
#SBATCH --job-name=serve
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --nodes=1
#SBATCH --gres=gpu:h100:4
#SBATCH --time=04:00:00
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=generic;template=serve)

_gs_engine=ollama
_gs_model=llama3:8b
_gs_host=0.0.0.0
_gs_port=80
_gs_program=''
_gs_program=${_gs_program:-$_gs_engine}
_gs_node=${SLURMD_NODENAME:-$HOSTNAME}
_gs_pid=
# Where this node itself reaches the server.
_gs_probe=$_gs_host
[[ $_gs_probe != 0.0.0.0 ]] || _gs_probe=127.0.0.1

# connects PORT: whether something listens there.
connects() { (exec 3<>"/dev/tcp/$_gs_probe/$1") 2>/dev/null; }

# answers PATH: whether the server says 200.
answers() (
    exec 3<>"/dev/tcp/$_gs_probe/$_gs_port" || exit 1
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$1" >&3
    IFS= read -r -t 5 status <&3 || exit 1
    timeout 5 cat <&3 >/dev/null # to the end, or the server logs a broken connection
    [[ $status == HTTP/*' 200'* ]]
) 2>/dev/null

if [[ $_gs_port == 0 ]]; then
    _gs_port=$((15000 + SLURM_JOB_ID % 15000))
    while connects "$_gs_port"; do _gs_port=$((_gs_port + 1)); done
fi

finish() {
    [[ -z $_gs_pid ]] || kill -TERM "$_gs_pid" 2>/dev/null
    [[ -z $_gs_pid ]] || wait "$_gs_pid" 2>/dev/null
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# in_server COMMAND...: run it with the variables of the request.
in_server() {

    exec -- "$@"
}

case $_gs_engine in
    vllm)
        _gs_health=/health _gs_api=/v1
        (in_server "$_gs_program" serve "$_gs_model" --host "$_gs_host" --port "$_gs_port" \
            --tensor-parallel-size "${SLURM_GPUS_ON_NODE:-1}" ) &
        ;;
    ollama)
        _gs_health=/api/version _gs_api=/v1
        (in_server env "OLLAMA_HOST=$_gs_host:$_gs_port" "$_gs_program" serve ) &
        ;;
esac
_gs_pid=$!

# until_answers: 0 once the server answers, 1 if it ended or took too long.
until_answers() {
    while ! answers "$_gs_health"; do
        kill -0 "$_gs_pid" 2>/dev/null || return 1
        ((SECONDS < 1800)) || return 1
        sleep 0.2
    done
}

SECONDS=0
if until_answers && [[ $_gs_engine == ollama ]]; then
    (in_server env "OLLAMA_HOST=$_gs_probe:$_gs_port" "$_gs_program" pull "$_gs_model") || exit 1
fi
if ! until_answers; then
    if kill -0 "$_gs_pid" 2>/dev/null; then
        echo "serve: $_gs_engine did not answer within 1800 seconds" >&2
    else
        wait "$_gs_pid"
        _gs_code=$?
        _gs_pid=
        echo "serve: $_gs_engine ended with code $_gs_code before it answered" >&2
        exit "$((_gs_code ? _gs_code : 1))"
    fi
    exit 1
fi
echo "serve: READY http://$_gs_node:$_gs_port$_gs_api ($_gs_engine, $_gs_model, $SECONDS seconds)"
wait "$_gs_pid"
_gs_code=$?
_gs_pid=
exit "$_gs_code"
