#!/bin/bash
#$ -S /bin/bash -cwd -V -N all -j y -o all.log -q all.q -pe make 2-6 -l h_rt=1:30:0,h_vmem=500M -r n -p -10 -m eas -M eve@lab.example
make -j "$NSLOTS" all
