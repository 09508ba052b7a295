# Phalanx on a CPU. This file was never built, for want of Docker where it was written: if a line of it fails,
# the same commands in a terminal are what `make` does, and those are tested.
#
#   docker build -t phalanx .
#   docker run --rm -v "$PWD/results:/phalanx/results" phalanx --config=vdfd --env-config=sc2 with map_name=3m
FROM python:3.12-slim

WORKDIR /phalanx
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir -e '.[server,lbf,mpe,plot,pandas]'
# The battle engine's kernels, so that a run's first step comes at once.
RUN python -c "from phalanx.envs.battle.vec import prepare; prepare()"

ENV OMP_NUM_THREADS=1
VOLUME /phalanx/results
ENTRYPOINT ["phalanx"]
CMD ["--help"]
