#!/bin/bash
#BSUB -J gather
#BSUB -w "done(call[1-24]) && numexit(4711, == 0)"
#BSUB -n 1
#BSUB -R rusage[mem=12000]
#BSUB -o gather.%J.txt
ls calls/part.*.g.vcf.gz | sort -V > parts.list
bcftools concat -a -f parts.list -Oz -o all.g.vcf.gz
tabix -p vcf all.g.vcf.gz
rm -f parts.list
