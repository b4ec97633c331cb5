# shellcheck shell=bash
# Simulated GPUs: character devices 1:3, as /dev/null is. slurmd wants devices;
# plain files register but leave CUDA_VISIBLE_DEVICES empty.

make_gpus() {
    local dir=$1 i
    mkdir -p -- "$dir"
    for i in {0..7}; do
        [[ -c $dir/fakegpu$i ]] && continue
        rm -f -- "$dir/fakegpu$i"
        mknod -m 666 "$dir/fakegpu$i" c 1 3
    done
}

# The devices lie on disk and so outlive a reboot; should /var be rebuilt at boot, this
# makes them again before slurmd looks for them.
make_gpus_at_boot() {
    local dir=$1 i
    mkdir -p /etc/tmpfiles.d
    for i in {0..7}; do
        printf 'c %s 0666 root root - 1:3\n' "$dir/fakegpu$i"
    done >/etc/tmpfiles.d/slurm-gpu-policy.conf
}
