#!/bin/bash
#SBATCH --job-name="my job" --comment='a # sign'
#SBATCH --export=ALL,MODE=fast,LIST="a b"
#SBATCH --output="out put/%x.txt"#not a comment in a shell
echo
