# docker build --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t tidegate .
# docker run -d --name tidegate -p 443:443 --stop-timeout 60 -v /etc/tidegate:/etc/tidegate:ro \
#     -v tidegate:/var/lib/tidegate tidegate
#
# The volume keeps what [acme] has ordered; without it, each new container orders again, and soon reaches the limits
# of the certificate authority.
# The container runs as user 65532, which must be able to read the keys. Set --stop-timeout to more than
# drain.delay plus drain.deadline; Docker's default of 10 s would interrupt a drain. Reload with
# `docker kill -s HUP tidegate`; inspect with `docker exec tidegate tidegate ctl top`. For applications on
# the same machine, use --network host; ports below 1024 then need --sysctl, or use a higher port.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs proxy.toml.example ./
COPY crates ./crates
COPY src ./src
COPY benches ./benches
COPY tools ./tools
# The commit that `tidegate --version` names; the repository is not part of the build.
ARG COMMIT
RUN TIDEGATE_COMMIT=$COMMIT cargo build --locked --release --bin tidegate && mkdir -m 700 /run/tidegate /var/lib/tidegate

# Contains only glibc, libgcc and CA certificates; no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/tidegate /usr/bin/tidegate
COPY proxy.toml.example /usr/share/doc/tidegate/examples/proxy.toml.example
# For the control socket, and for certificates.
COPY --from=build --chown=65532:65532 /run/tidegate /run/tidegate
COPY --from=build --chown=65532:65532 /var/lib/tidegate /var/lib/tidegate
ENV RUNTIME_DIRECTORY=/run/tidegate
USER 65532:65532
EXPOSE 443
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tidegate"]
CMD ["run", "--config", "/etc/tidegate/proxy.toml"]
