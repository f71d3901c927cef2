#!/bin/bash
#SBATCH -J notebook
#SBATCH -t 04:00:00 -p interactive
#SBATCH --gpus=1 --cpus-per-gpu=6 --mem-per-gpu=40G
#SBATCH -o jupyter-%u-%J.log
#SBATCH --open-mode=t
#SBATCH --propagate=NONE

port=$(shuf -i 8000-9999 -n 1)
cat <<END
On your own machine:
    ssh -N -L ${port}:$(hostname):${port} ${USER}@login.example.org
and open http://localhost:${port}
END
jupyter lab --no-browser --ip=0.0.0.0 --port="$port"
