#$ -cwd
#$ -N plain
hostname
