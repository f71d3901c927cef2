#!/bin/bash
#BSUB -J ddp
#BSUB -q gpu_long
#BSUB -n 4
#BSUB -R "span[ptile=1]"
#BSUB -R "affinity[core(8,same=socket)]"
#BSUB -gpu "num=4/host:mode=exclusive_process:j_exclusive=yes"
#BSUB -W 48:00
#BSUB -o ddp.%J.log
export MASTER_ADDR=$(head -n 1 "$LSB_DJOB_HOSTFILE")
export MASTER_PORT=29400
rank=0
for host in $(sort -u "$LSB_DJOB_HOSTFILE"); do
    blaunch -z "$host" torchrun --nnodes 4 --nproc-per-node 4 \
        --node-rank $rank --master-addr "$MASTER_ADDR" \
        --master-port "$MASTER_PORT" train.py --epochs 90 &
    rank=$((rank + 1))
done
wait
