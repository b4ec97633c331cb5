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
