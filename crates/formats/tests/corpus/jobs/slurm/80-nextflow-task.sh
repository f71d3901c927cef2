#!/bin/bash
#SBATCH -J nf-ALIGN_(s1)
#SBATCH -o /scratch/work/3f/ab12/.command.log
#SBATCH --no-requeue
#SBATCH --signal B:USR2@30
#SBATCH -c 4
#SBATCH -t 02:00:00
#SBATCH --mem 8192M
#SBATCH -p short
NXF_CHDIR=/scratch/work/3f/ab12
nxf_main() {
    trap 'exit ${ret:=$?}' EXIT
    trap 'set +e; ret=99; kill -USR2 $pid 2>/dev/null' USR2
    cd "$NXF_CHDIR" && bash .command.sh 2> .command.err > .command.out &
    pid=$!
    wait $pid || ret=$?
    echo "${ret:=0}" > .exitcode
}
nxf_main
