# Prometheus that finds services in Consul and holds the alerting and recording rules of etc/rules.yml.
FROM prom/prometheus:v3.5.3
COPY --chown=nobody:nobody etc/prometheus.yml etc/rules.yml /etc/prometheus/
# The rules are named here, and not in prometheus.yml, since VictoriaMetrics reads that file too and refuses the key.
RUN echo 'rule_files: [rules.yml]' >> /etc/prometheus/prometheus.yml \
    && promtool check config /etc/prometheus/prometheus.yml
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9090/-/healthy"]
