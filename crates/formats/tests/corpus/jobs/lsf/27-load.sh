#!/bin/bash
#BSUB -n 8
#BSUB -R "select[mem>16000 && hname!=bad1] rusage[mem=2000,tmp=5G] span[ptile='!']"
#BSUB -o /dev/null
./run
