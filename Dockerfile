# docker build -t tidegate .
# docker run -d --name tidegate -p 443:443 --stop-timeout 60 -v /etc/tidegate:/etc/tidegate:ro tidegate
#
# The user in it is 65532; keys must be readable by it. --stop-timeout is longer than drain.delay and
# drain.deadline together: docker's own 10 s would cut a drain. `docker kill -s HUP tidegate` reloads,
# `docker exec tidegate tidegate ctl top` looks. Applications on the same machine: --network host, and
# then ports below 1024 take --sysctl or a listener on a higher port.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
COPY benches ./benches
COPY tools ./tools
RUN cargo build --locked --release --bin tidegate && mkdir -m 700 /run/tidegate

# glibc and libgcc, certificates, and nothing else: no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/tidegate /usr/bin/tidegate
COPY proxy.toml.example /usr/share/doc/tidegate/examples/proxy.toml.example
# For the control socket.
COPY --from=build --chown=65532:65532 /run/tidegate /run/tidegate
ENV RUNTIME_DIRECTORY=/run/tidegate
USER 65532:65532
EXPOSE 443
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tidegate"]
CMD ["run", "--config", "/etc/tidegate/proxy.toml"]
