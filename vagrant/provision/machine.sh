#!/usr/bin/env bash
# machine.sh ROLE: make this machine one of the Vagrant cluster. ROLE is controller,
# login or gpu. It takes the same steps as vagrant/cluster, only one machine's share of
# them. Run as root by the Vagrantfile; running it again is harmless.
#
# From the environment: CLUSTER_CONTROLLER, CLUSTER_ADDRESS (settings.sh); CLUSTER_HOSTS,
# lines for /etc/hosts; MUNGE_KEY, the common key in base64.
set -euo pipefail

PROVISION=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
KIND=vagrant
ROLE=${1-}

. "$PROVISION/words.sh"
. "$PROVISION/settings.sh"
for step in packages configure users gpus daemons accounts prometheus; do
    . "$PROVISION/$step.sh"
done

make_hosts() {
    [[ -n ${CLUSTER_HOSTS-} ]] || return 0
    # A box maps its own name to 127.0.1.1, where no other machine can reach it.
    local kept line
    kept=$(sed -e '/^127\.0\.1\.1/d' -e '/# slurm-gpu-policy$/d' /etc/hosts)
    {
        printf '%s\n' "$kept"
        while IFS= read -r line; do
            printf '%s # slurm-gpu-policy\n' "$line"
        done <<<"$CLUSTER_HOSTS"
    } >/etc/hosts
}

make_munge_key() {
    [[ -n ${MUNGE_KEY-} ]] || return 0
    local key=/etc/munge/munge.key
    base64 -d <<<"$MUNGE_KEY" >"$key.new"
    chown munge: "$key.new"
    chmod 400 "$key.new"
    if cmp -s "$key.new" "$key"; then
        rm -- "$key.new"
    else
        mv -- "$key.new" "$key"
        ! by_systemd || systemctl stop munge.service    # started anew below
    fi
}

# gpu-submit and gpu-policy for everybody on the login node, from the checkout beside us.
install_gpu_submit() {
    local folder program
    folder=$("$PROVISION/../../tools/site-venv")
    for program in gpu-submit gpu-policy; do
        ln -sfn -- "$folder/$program" "/usr/local/bin/$program"
    done
}

# What every role has: who is who, and one configuration.
make_common() {
    make_hosts
    install_packages "$@"
    make_munge_key
    need_own_conf
    make_folders
    make_users
    configure
    start_munge
}

need_root "$ROLE"
case $ROLE in
    controller)
        make_common "${NATIVE_PACKAGES[@]}" prometheus
        start_mariadb
        start_slurmdbd
        [[ -e $STATE/accounts.done ]] || make_cluster_record
        start_slurmctld
        [[ -e $STATE/accounts.done ]] || make_accounts
        touch -- "$STATE/accounts.done"
        start_prometheus ;;
    login)
        make_common "${LOGIN_PACKAGES[@]}"
        install_gpu_submit ;;
    gpu)
        node=${CLUSTER_NODE:-$(hostname -s)}
        make_common "${GPU_PACKAGES[@]}"
        make_gpus "$STATE/gpu"
        make_gpus_at_boot "$STATE/gpu"
        start_slurmds "$node" ;;
    *)
        die "unknown role '$ROLE': it is controller, login or gpu" ;;
esac
say "$(hostname -s) is ready as $ROLE (GPUs are simulated: devices that behave like /dev/null)"
