# shellcheck shell=bash
# Prometheus on the controller, scraping the sidecars of the GPU nodes and gpu-policyd.

SIDECAR_PORT=${SIDECAR_PORT:-9810}
POLICYD_PORT=${POLICYD_PORT:-9811}

prometheus_conf() {
    local node
    cat <<END
$MARKER for $STATE
global:
  scrape_interval: 15s
scrape_configs:
  - job_name: gpu-sidecar
    static_configs:
      - targets:
END
    for node in "${GPU_NODES[@]}"; do printf "          - '%s:%s'\n" "$node" "$SIDECAR_PORT"; done
    cat <<END
  - job_name: gpu-policyd
    static_configs:
      - targets: ['$CONTROLLER:$POLICYD_PORT']
END
}

start_prometheus() {
    prometheus_conf >/etc/prometheus/prometheus.yml
    if by_systemd; then
        systemctl --quiet enable prometheus.service
        systemctl restart prometheus.service
    else
        say "no systemd: Prometheus is configured but not started"
    fi
}
